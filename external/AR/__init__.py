"""Alpha-Refine: a mask for every box of a tracker."""
