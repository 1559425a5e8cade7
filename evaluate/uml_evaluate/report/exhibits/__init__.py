"""What a report shows beside numbers: samples, mistakes, a confusion picture, a map, nearest neighbours."""
