SELECT version, key, value, rank, dataset, source, aliases FROM leaderboard('delay')
