SELECT name, version, key, slice, value, step FROM slice_metrics ORDER BY name, version, key, slice
