# test/tsan
