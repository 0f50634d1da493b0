# test/system
