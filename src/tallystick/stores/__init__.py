"""Where rows live: one package a store, and the server that starts by itself."""
