# vm/cdef.cmake - makes the C file behind vm/cdef.h; run by the build:
#
#   cmake -DOUT=FILE.c -P cdef.cmake HEADER...
#
# Copies what lies between the lines `/* cdef: begin */` and `/* cdef: end */`
# of each header, in the order given, into one array of bytes. Bytes and not a
# string literal: nothing needs escaping, and C11 promises literals of no more
# than 4095 characters.

set(begin "/* cdef: begin */")
set(end "/* cdef: end */")
set(text "")

math(EXPR argument_last "${CMAKE_ARGC} - 1")
set(seen_script FALSE)
foreach(index RANGE 1 ${argument_last})
  set(header "${CMAKE_ARGV${index}}")
  if(NOT seen_script)
    if(header MATCHES "cdef\\.cmake$")
      set(seen_script TRUE)
    endif()
    continue()
  endif()

  file(READ "${header}" rest)
  string(FIND "${rest}" "${begin}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "${header}: has no line ${begin}")
  endif()
  while(NOT at EQUAL -1)
    string(LENGTH "${begin}" length)
    math(EXPR at "${at} + ${length}")
    string(SUBSTRING "${rest}" ${at} -1 rest)
    string(FIND "${rest}" "${end}" at)
    if(at EQUAL -1)
      message(FATAL_ERROR "${header}: ${begin} without ${end}")
    endif()
    string(SUBSTRING "${rest}" 0 ${at} region)
    if(region MATCHES "\n[ \t]*#")
      message(FATAL_ERROR
        "${header}: a preprocessor line between the cdef marks")
    endif()
    string(APPEND text "${region}")
    string(LENGTH "${end}" length)
    math(EXPR at "${at} + ${length}")
    string(SUBSTRING "${rest}" ${at} -1 rest)
    string(FIND "${rest}" "${begin}" at)
  endwhile()
endforeach()

string(HEX "${text}" hex)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE
  "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n"
  bytes "${bytes}")
file(WRITE "${OUT}" "/* Made by vm/cdef.cmake; not to be edited. */
#include \"vm/cdef.h\"

const char pl__cdef_text[] = {
${bytes}0x00};
")
