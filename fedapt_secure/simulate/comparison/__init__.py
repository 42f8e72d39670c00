"""Several simulations on the same split, side by side: what is run, what is kept, and the tables of it."""
