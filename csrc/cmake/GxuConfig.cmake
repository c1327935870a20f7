# find_package(Gxu): the target gxu::torch, the gxu device for programs that use libtorch without Python.
#
# Linking it loads libgxu_torch.so when the program starts, which registers the device: "gxu" is then a device that
# tensors and AOTInductor's packages can be put on. Needs find_package(Torch) first.
get_filename_component(GXU_PACKAGE_DIR "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET torch)
  set(Gxu_FOUND FALSE)
  set(Gxu_NOT_FOUND_MESSAGE "find_package(Torch) must come before find_package(Gxu)")
  return()
endif()
if(NOT TARGET gxu::torch)
  add_library(gxu::torch SHARED IMPORTED)
  set_target_properties(gxu::torch PROPERTIES
    IMPORTED_LOCATION "${GXU_PACKAGE_DIR}/lib/libgxu_torch.so"
    IMPORTED_SONAME "libgxu_torch.so"
    INTERFACE_INCLUDE_DIRECTORIES "${GXU_PACKAGE_DIR}/include"
    # A program that names no symbol of the library still needs it.
    INTERFACE_LINK_OPTIONS "LINKER:--no-as-needed"
    INTERFACE_LINK_LIBRARIES torch)
endif()
