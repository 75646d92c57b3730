"""What belongs to no room: files, names, seeds, options, errors."""
