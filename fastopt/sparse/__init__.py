"""Lock-free training of linear models on sparse rows."""
