"""Labels of other programs: each module reads the files of one format; `importing` makes masks of them."""
