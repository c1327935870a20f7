# find_package(Gxu): the target gxu::torch, libtorch and the gxu device for programs without Python.
#
# Linking it loads libgxu_torch.so when the program starts, which registers the device: "gxu" is then a device that
# tensors and AOTInductor's packages can be put on.
#
# After find_package(Torch), libtorch is that one's target. Without it libtorch is taken from where TorchConfig.cmake is
# found (in CMAKE_PREFIX_PATH or Torch_DIR, else beside gxu): what that file asks for, an installed CUDA with its
# compiler where torch was built for CUDA, is not needed here.
get_filename_component(GXU_PACKAGE_DIR "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(TARGET torch)
  set(GXU_LIBTORCH torch)
else()
  find_file(GXU_TORCH_CONFIG TorchConfig.cmake
    HINTS ${Torch_DIR} ${CMAKE_PREFIX_PATH} ENV CMAKE_PREFIX_PATH
    PATHS "${GXU_PACKAGE_DIR}/../torch/share/cmake"
    PATH_SUFFIXES Torch share/cmake/Torch
    NO_DEFAULT_PATH)
  mark_as_advanced(GXU_TORCH_CONFIG)
  if(NOT GXU_TORCH_CONFIG)
    set(Gxu_FOUND FALSE)
    set(Gxu_NOT_FOUND_MESSAGE
      "TorchConfig.cmake is not found: put `python -c 'import torch; print(torch.utils.cmake_prefix_path)'` into CMAKE_PREFIX_PATH")
    return()
  endif()
  get_filename_component(GXU_TORCH_PREFIX "${GXU_TORCH_CONFIG}/../../../.." ABSOLUTE)
  set(GXU_LIBTORCH gxu::libtorch)
  if(NOT TARGET gxu::libtorch)
    add_library(gxu::libtorch INTERFACE IMPORTED)
    set_target_properties(gxu::libtorch PROPERTIES
      INTERFACE_INCLUDE_DIRECTORIES
      "${GXU_TORCH_PREFIX}/include;${GXU_TORCH_PREFIX}/include/torch/csrc/api/include"
      INTERFACE_LINK_LIBRARIES
      "${GXU_TORCH_PREFIX}/lib/libtorch.so;${GXU_TORCH_PREFIX}/lib/libtorch_cpu.so;${GXU_TORCH_PREFIX}/lib/libc10.so")
  endif()
endif()
if(NOT TARGET gxu::torch)
  add_library(gxu::torch SHARED IMPORTED)
  set_target_properties(gxu::torch PROPERTIES
    IMPORTED_LOCATION "${GXU_PACKAGE_DIR}/lib/libgxu_torch.so"
    IMPORTED_SONAME "libgxu_torch.so"
    INTERFACE_INCLUDE_DIRECTORIES "${GXU_PACKAGE_DIR}/include"
    # A program that names no symbol of the library still needs it.
    INTERFACE_LINK_OPTIONS "LINKER:--no-as-needed"
    INTERFACE_LINK_LIBRARIES ${GXU_LIBTORCH})
endif()
