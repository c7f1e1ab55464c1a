"""Where on the sky: regions (`lmc.inside`) and sky maps of other messengers (`skymaps.level`)."""
