"""What experiments share: statements, settings, budgets, the ledger and its report."""
