"""Frozen values. They do not depend on stores, providers or frameworks."""
