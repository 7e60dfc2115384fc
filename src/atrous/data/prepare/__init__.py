"""The official data sets: from the archives of their sites to the folders that `atrous train` reads, verified."""
