SELECT day, slice, predictions, accuracy FROM live_metrics_by('a.b', since := '2026-11-11', until := '2026-11-12')
ORDER BY slice
