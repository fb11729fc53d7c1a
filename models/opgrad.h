// The whole of opgrad for a user's program.
#pragma once
#include "../core/error.h"
#include "../graph/grad.h"
#include "../graph/run.h"
#include "../ops/ops.h"
#include "../optim/optimizer.h"
#include "data.h"
#include "layers.h"
#include "module.h"
#include "train.h"
