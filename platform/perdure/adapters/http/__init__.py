"""The transport through the HTTP API: `http://host:8000` or `https://…`, with a token.

May import what `log` may, and httpx. Start reading at `transport.py`; `routes.py` has the route of
each command, `answers.py` interprets responses, and `contract.py` has the parts of the contract
that the OpenAPI document lacks.
"""
