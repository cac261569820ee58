"""What may be spent: the rules of budgets, and the engine that reserves and settles."""
