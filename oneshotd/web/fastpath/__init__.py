"""Shortcuts for plain ``POST /event`` requests; optional, same answers as the routes."""
