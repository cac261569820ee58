"""Notifications to people: e-mail, chat, SMS and webhooks, each kept in the ledger until it is delivered."""
