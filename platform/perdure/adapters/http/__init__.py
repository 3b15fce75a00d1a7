"""The transport through the HTTP API: `http://host:8000` or `https://…`, with a token.

May import what `log` may, and httpx. Start reading at `transport.py`; `routes.py` says which route
a command goes to, `answers.py` what an answer means, and `contract.py` what both sides of the wire
must agree on.
"""
