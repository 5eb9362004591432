"""Nodes that measure erasures by pictures: prompt sets, detectors, tables."""
