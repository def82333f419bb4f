# Writes a C file with the bytes of a text file: cmake -DIN= -DOUT= -DNAME= -DHEADER= -P.

file(READ "${IN}" hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "C(0x\\1)," bytes "${hex}")
string(REGEX REPLACE "(................................................................................)"
  "\\1\n" bytes "${bytes}")
file(WRITE "${OUT}" "#include \"${HEADER}\"\n\n"
  "#define C(byte) (char)(byte)\n\n"
  "const char ${NAME}[] = {\n${bytes}0};\n"
  "const unsigned ${NAME}_bytes = sizeof ${NAME} - 1;\n")
