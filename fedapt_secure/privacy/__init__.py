"""Privacy budgets: what was planned, what was spent, and when to stop. No torch here."""
