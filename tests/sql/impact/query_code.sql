SELECT depth, urn, relation, predictions FROM impact('code:r.git@abc123')
