"""Stage `localediting`: which style channels make a mouth, by LocalEditing, for the benchmark."""
