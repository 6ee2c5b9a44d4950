/* version.c - which library this is. */
#include "bsdattn.h"

#define TEXT_OF(value) #value
#define TEXT(value)    TEXT_OF(value)

const char *bsd_version(void) {
  return TEXT(BSD_VERSION_MAJOR) "." TEXT(BSD_VERSION_MINOR) "." TEXT(BSD_VERSION_PATCH);
}
