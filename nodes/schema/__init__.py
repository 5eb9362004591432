"""Inputs and sockets that nodes share."""
