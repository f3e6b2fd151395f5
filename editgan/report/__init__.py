"""The page of results (stage `report`), comparison of runs, regression check against the baseline."""
