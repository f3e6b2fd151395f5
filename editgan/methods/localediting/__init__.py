"""Stage `localediting`: the style channels of the mouth by LocalEditing, for the benchmark."""
