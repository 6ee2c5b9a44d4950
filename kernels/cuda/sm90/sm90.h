/* sm90.h - the parts of the sm90 family (sm90.c): its kernels and what they share on the host. */
#ifndef BSD_SM90_H
#define BSD_SM90_H

#include "work.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The family's place in families.c's table, which goes from the fastest on. */
enum { BSD_SM90_FAMILY = 0 };

/* forward.cu: one stage of one pass. `pass` keeps the tensor maps of its last call. */
bsd_status bsd_sm90_forward_open(bsd_error *error);
bsd_status bsd_sm90_forward(void *device, const bsd_call *call, bsd_sm90_pass *pass, int stage,
                            void *stream, bsd_error *error);

/* backward_query.cu, backward_key.cu: the same. The pass's own tiles are queries, keys. beside: the kernel launched
 * just before is dk, dv of the same call, which dq need not wait for. */
bsd_status bsd_sm90_backward_dq_open(bsd_error *error);
bsd_status bsd_sm90_backward_dq(void *device, const bsd_call *call, bsd_sm90_pass *pass, int stage,
                                int beside, void *stream, bsd_error *error);
bsd_status bsd_sm90_backward_dkv_open(bsd_error *error);
bsd_status bsd_sm90_backward_dkv(void *device, const bsd_call *call, bsd_sm90_pass *pass, int stage,
                                 void *stream, bsd_error *error);

#ifdef __cplusplus
}
#endif

#endif
