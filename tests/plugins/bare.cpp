// A shared object that knows nothing of opgrad.
int nothing_to_do_with_opgrad() { return 1; }
