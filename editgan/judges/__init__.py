"""Stage `judges`: the smile classifiers trained here, the guide and the judge, and the quality of all judges."""
