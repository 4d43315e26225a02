//! Checks of every decoder as plain functions, and the fuzz targets that call them.
