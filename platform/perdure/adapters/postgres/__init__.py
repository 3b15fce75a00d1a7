"""What is materialised in PostgreSQL: tables of workflows and events, typed views, and who reads and writes them."""
