/* A loss that the caller brings as a compiled function. */
#ifndef FASTOPT_USER_H
#define FASTOPT_USER_H

#include <stddef.h>

/* Returns the loss at prediction p of target y, and writes its derivative by p. */
typedef double fo_user_plain(double p, double y, double *derivative);
typedef double fo_user_with_data(double p, double y, double *derivative, void *data);

typedef struct {
    fo_user_plain *plain; /* or NULL: then */
    fo_user_with_data *with_data;
    void *data;
} fo_user;

static inline double fo_ask(const fo_user *user, double p, double y, double *derivative) {
    return user->plain ? user->plain(p, y, derivative)
                       : user->with_data(p, y, derivative, user->data);
}

#endif
