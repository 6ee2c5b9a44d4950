/* cost.c - predicted time of a pass. See cost.h. */
#include "cost.h"

bsd_cost_model bsd_cost_default(bsd_backend backend) {
  bsd_cost_model cpu = {50e9, 5e9, 10e-6}, gpu = {400e12, 200e9, 20e-6};
  return backend == BSD_BACKEND_CUDA ? gpu : cpu;
}

/* Compute and exchange are added: overlap is an upside that the choice does not count on. */
double bsd_cost_seconds(const bsd_cost_model *model, double flops, double bytes, double messages) {
  return flops / model->flops_per_second + bytes / model->bytes_per_second +
         messages * model->latency_seconds;
}
