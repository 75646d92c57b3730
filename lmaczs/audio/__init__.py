"""Reading, writing, resampling, mixing and changing sound."""
