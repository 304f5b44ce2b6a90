"""How a fitted probe does on changed responses: longer ones, and ones without tell-tale words."""
