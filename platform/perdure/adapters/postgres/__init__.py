"""Materialised views in PostgreSQL: tables of workflows and events, typed views, their readers and
writers.
"""
