"""The checks of each kind, in a module with the name of the kind; `component` has those of all."""
