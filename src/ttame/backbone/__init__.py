"""Classifiers: any library and any module behind one contract."""
