"""Endpoints for operators: health, metrics, version, admin, the OpenAPI document."""
