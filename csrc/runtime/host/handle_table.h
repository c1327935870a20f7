// Handles that can be checked: common/handle_table.h in this engine.
#pragma once

#include "../common/handle_table.h"
#include "error.h"
