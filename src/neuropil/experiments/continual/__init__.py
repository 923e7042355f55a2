"""Learning without end: tasks that come one after the other and do not come back."""
