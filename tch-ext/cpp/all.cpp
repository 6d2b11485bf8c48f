// All of it in one piece: torch's headers, which most of these files include, take the compiler many times
// as long as the files themselves, and so are read once.
#include "attention.cpp"
#include "autocast.cpp"
#include "bridge.cpp"
#include "distributed.cpp"
#include "memory.cpp"
#include "optim.cpp"
#include "precision.cpp"
#include "random.cpp"
