"""The edge where requests come in: FastAPI, Litestar, and what both need. Nothing here is loaded by itself."""
