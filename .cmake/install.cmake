# What cmake --install puts where. Nothing of it names the folder it was built in or the one it is installed to, so the
# whole may be moved.
include(CMakePackageConfigHelpers)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/opgrad)

install(TARGETS opgrad_static opgrad_shared opgrad_flags EXPORT opgrad-targets)
install(TARGETS opgrad_command)
foreach(room IN LISTS opgrad_rooms)
  install(DIRECTORY ${room} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/opgrad FILES_MATCHING PATTERN "*.h"
          PATTERN command EXCLUDE PATTERN data EXCLUDE)
endforeach()
# <opgrad/opgrad.h>, for those who prefer it.
file(CONFIGURE OUTPUT opgrad.h CONTENT "#pragma once\n#include \"models/opgrad.h\"\n")
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/opgrad.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/opgrad)
install(DIRECTORY models/data/ DESTINATION ${CMAKE_INSTALL_DATADIR}/opgrad)

install(EXPORT opgrad-targets NAMESPACE opgrad:: DESTINATION ${package})
configure_package_config_file(.cmake/opgrad-config.cmake.in opgrad-config.cmake INSTALL_DESTINATION ${package}
                              NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(opgrad-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/opgrad-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/opgrad-config-version.cmake
        DESTINATION ${package})

file(RELATIVE_PATH up ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
foreach(name opgrad opgrad-static)
  configure_file(.cmake/${name}.pc.in ${name}.pc @ONLY)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
