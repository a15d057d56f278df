"""The bundled checks: one folder for each family, one module for each check."""
