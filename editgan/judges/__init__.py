"""The judges: smile classifiers trained here, pretrained networks, and their quality. `load.py` lists all of them."""
