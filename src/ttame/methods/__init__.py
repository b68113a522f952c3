"""Explanation methods to compare with, behind one signature."""
