"""The named recipes: the options of a run, with the published hyper-parameters if there are any."""
