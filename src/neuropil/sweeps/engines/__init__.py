"""Where runs of a sweep are done: one file for each engine, with a class `Engine`; nothing else knows which it is."""
